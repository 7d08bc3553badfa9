"""Read, check, look up: the catalogs of devices, models, formats, runtimes and knowledge."""

from willitrun.catalog.catalogs import Catalog, load_catalog, open_catalog

__all__ = ["Catalog", "load_catalog", "open_catalog"]
