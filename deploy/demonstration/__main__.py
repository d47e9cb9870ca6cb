"""`python -m deploy.demonstration`, which `./deploy/demo` runs."""

from deploy.demonstration.command import demo

if __name__ == "__main__":
    demo(prog_name="demo")
