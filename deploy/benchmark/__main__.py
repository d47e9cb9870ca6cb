"""`python -m deploy.benchmark`, which `./deploy/bench` runs."""

from deploy.benchmark.command import bench

if __name__ == "__main__":
    bench(prog_name="bench")
