"""Plans on engines that exist: adapters of a few lines around one pure function, `judge_batch`.

`judge_batch` takes an Arrow table of scenarios (columns as for `willitrun.plan_rows`) and returns it with the results
beside it. It keeps no state, so any engine may run it anywhere, again and again. Nothing in the core imports this.
"""

from willitrun.interop.engines.batches import RESULT_COLUMNS, judge_batch, result_schema
from willitrun.interop.engines.dasks import judge_dask
from willitrun.interop.engines.ducks import register_duckdb
from willitrun.interop.engines.frames import judge_pandas, judge_polars
from willitrun.interop.engines.rays import judge_ray
from willitrun.interop.engines.sparks import judge_spark

__all__ = [
    "RESULT_COLUMNS",
    "judge_batch",
    "judge_dask",
    "judge_pandas",
    "judge_polars",
    "judge_ray",
    "judge_spark",
    "register_duckdb",
    "result_schema",
]
