"""`editctl crd`: the definition of the resource `EditContainer`."""

from __future__ import annotations

import click

from controller.cli.app import App, command


@command(
    "crd",
    settings=False,
    short_help="Print the Kubernetes resource that declares containers.",
    examples="""
        editctl crd | kubectl apply --server-side -f -
        editctl crd | kubectl diff --server-side -f -
    """,
)
def crd(app: App) -> None:
    """Print the CustomResourceDefinition of EditContainer as YAML. No cluster is needed, and none is asked.

    manifests/kubernetes has the same, with everything else that the controller needs on a cluster.
    """
    from controller.kubernetes.resource import definition
    from controller.kubernetes.yamltext import yaml_text

    # Not the screen's way out: it is a file's text, and nothing in it may be escaped.
    click.echo(yaml_text(definition()), nl=False)
