"""A self-hosted registry server for Spectro Cloud packs.

Two flows, one in and one out. A watched directory and a pushed archive enter through `registry.Registry.publish`,
which puts the blobs and replaces the pack's record in the storage; everything that is read goes through the packs kept
in memory, which follow the records, and leaves through `web`::

    packs/ directories ─► sources ─┐
                                   ├─► Registry.publish ─► storage: blobs + records ─► Registry ─► web: /v1  /api/v1
    push (HTTP body) ─────► pushes ─┘

A module imports only modules of a lower rank; those of one rank do not know each other (`tests/test_ranks.py`)::

    rank 0   errors       every refusal: wire code, HTTP status, what to do
             failures     what goes wrong on a client's side, with its exit code
         1   model        digest, pack name, tag, release, record: frozen, parsed at the edge
             versions     the order of real-world versions, parent tags
             config       one table of options: file, environment, flags, help
             reload       files that are read again when they change
             masking      secrets out of what is logged
             linesink     lines for a stream whose reader may have stopped reading
             tally        numbers that several processes count in
             health       whether the server can do its work
         2   metrics      what is counted and measured
             start        what has to hold before a server can start, and where it will listen
             signals      what signals mean to a server process
             pack         read and lint a pack's files: metadata and problems
             archive      files to a reproducible archive, members out of any
             directory    a pack directory: what is in it, whether it has changed
             sightings    what was last seen of watched directories
             catalog      a pack in memory: releases, tags, parent tags, blobs
             manifests    the manifests a release is described by
             auth         who asks, what that takes to know, and what they may do
             tls          certificates: the live context that connections are encrypted with
             audit        a record of each change and each refusal
             storage      the contract of a backend; filesystem and memory
             logs         how log lines look
             gunzip       gzip read forward, bounded in memory and in what comes out
             tarstream    tar read forward and strictly
             receive      request bodies on their way to a file
             holdings     uploaded blobs that no release refers to yet
             credentials  the address of a registry, who asks, and the file with logins
         3   blobcache    small blobs in memory
             inspection   pushed archives: what is in one, and what is wrong with it
             changes      the rules of publishing, tags, removal and rollback, record to record
             uploads      uploads that take several requests
             unpack       a downloaded archive into a directory, whole or not at all
             offer        a pack directory on its way to a registry
         4   registry     publish, find, withdraw: all policy, no HTTP
             client       a client of a registry: push, list, pull, tags
             chart        a Helm chart: its name, values and images
         5   sources      watched directories: publish what is new, withdraw what is gone
             pushes       pushed archives: received, checked, published
             sweep        removing what nothing refers to any more
             scaffold     a pack made from Helm charts
         6   watcher      looking again and again, sooner when something happens
         7   web          requests to calls, values to responses
         8   server       one process, from its configuration to its exit
         9   worker       one of several server processes that share an address
         10  supervisor   starts and replaces those
         11  cli          the command line
"""

__version__ = "0.1.0"
