"""The links' process: `python -m deploy.chaos.links --config FILE.toml`."""

from deploy.chaos.links.control import LinksSettings, serve_links
from deploy.node.command import run_service


def main() -> None:
    """Forward until stopped."""
    run_service(
        serve_links,
        LinksSettings,
        module="deploy.chaos.links",
        name="links",
        description="Forwards connections between processes of a network, and disturbs them when told to.",
    )


if __name__ == "__main__":
    main()
