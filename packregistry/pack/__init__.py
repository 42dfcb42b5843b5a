"""What a pack's own files say: read and checked, from bytes alone.

Nothing here touches the pack's disk, so a directory and an archive go through the same code, and nothing here raises,
whatever the bytes are: what is wrong becomes a `Problem`. An error keeps the pack out, as it would be unusable or
unsafe; what is merely odd is a warning, since real packs are odd and have to be served.

`lint` reads everything there is to know for publishing. `values_schema`, `presets` and `images` read one file further,
for somebody who looks at one version. Their modules import only those above them:

    findings     the problems of one pack, sorted and limited; did-you-mean
    jsontext     JSON with lines         yamltree    YAML with lines         re2    syntax of regular expressions
    packjson     pack.json against pack.schema.json, the name and the tag
    references   the files pack.json names
    valuesyaml   values.yaml             schemayaml  schema.yaml
    presetsyaml  presets.yaml            logopng     logo.png
    reading      all of them together
"""

from packregistry.pack.presetsyaml import Preset, presets
from packregistry.pack.reading import METADATA_FILES, Reading, lint
from packregistry.pack.schemayaml import ValueRule, values_schema
from packregistry.pack.valuesyaml import images

__all__ = ["METADATA_FILES", "Preset", "Reading", "ValueRule", "images", "lint", "presets", "values_schema"]
