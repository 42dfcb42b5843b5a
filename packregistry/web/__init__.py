"""The HTTP side: parse a request, make one call into the registry, render what comes back."""
