"""Join the ranks by CM_CHIEF_IP and its family, as the launcher's rank_table_free mode sets them."""

from __future__ import annotations

import json
import os

from launcher.profiles.tensorflow import without_rank_table


def main() -> None:
    run, rank = os.environ["NPU_LAUNCH_RUN_DIR"], os.environ["DEVICE_INDEX"]
    table = dict(
        os.environ, RANK_TABLE_FILE=os.path.join(run, "rank_table.json"), RANK_ID=rank, RANK_SIZE="2"
    )
    free = without_rank_table(table, chief_ip="10.0.0.1", chief_device=0, worker_ip="10.0.0.1")
    os.environ.clear()
    os.environ.update(free)

    from bert import backend as backends
    from bert.cluster import Cluster

    backend = backends.create(Cluster.from_environ(os.environ), "npu")
    ranks = backend.all_gather(backend.rank)
    backend.close()
    print(json.dumps({"ranks": ranks}))


if __name__ == "__main__":
    main()
