"""The button in JupyterLab that approves exactly the plan that is shown."""

from __future__ import annotations

from collections.abc import Callable

from labkit.plan import Plan


def offer_approval(plan: Plan, apply: Callable[[], None]) -> None:
    """Show a button that applies this plan when it is pressed; outside a kernel, show nothing.

    Args:
        plan: what would be applied; its digest stands on the button.
        apply: applies the plan with its digest as approval.
    """
    try:
        from IPython import get_ipython  # noqa: PLC0415  # only there inside a kernel
    except ImportError:
        return
    if get_ipython() is None or not hasattr(get_ipython(), "kernel"):
        return
    from IPython.display import display  # noqa: PLC0415
    from ipywidgets import Button, Layout, Output, VBox  # noqa: PLC0415

    button = Button(
        description=f"Approve and apply {plan.digest}",
        button_style="" if plan.risk == "safe" else "warning",
        tooltip=plan.summary(),
        layout=Layout(width="22em"),
    )
    output = Output()

    def pressed(_button: Button) -> None:
        button.disabled = True  # a second press must not apply twice
        with output:
            apply()

    button.on_click(pressed)
    display(VBox([button, output]))
