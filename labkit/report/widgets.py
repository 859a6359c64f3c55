"""The button in JupyterLab that approves exactly the plan that is shown."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from labkit.errors import LabError
from labkit.plan import Plan, Risk
from labkit.report.html import box

Draw = Callable[[str], None]


def offer_approval(plan: Plan, apply: Callable[[Draw], None]) -> None:
    """Show a button that applies this plan when it is pressed; call it inside a kernel only.

    Args:
        plan: what would be applied; its digest stands on the button.
        apply: applies the plan with its digest as approval; it gets a function that shows HTML below the button.
    """
    from IPython.display import display  # noqa: PLC0415  # only there inside a kernel
    from ipywidgets import HTML, Button, Layout, VBox  # noqa: PLC0415

    button = Button(
        description=f"Approve and apply {plan.digest}",
        button_style="" if plan.risk is Risk.SAFE else "warning",
        tooltip=plan.summary(),
        layout=Layout(width="22em"),
    )
    progress, end = HTML(), HTML()

    def draw(html: str) -> None:
        progress.value = html

    def pressed(_button: Button) -> None:
        button.disabled = True  # a second press must not apply twice
        try:
            apply(draw)
        except LabError as exc:
            end.value = box(f'<p class="bad">{escape(str(exc))}</p>')
        else:
            end.value = box('<p class="good">Applied. Go on with the next cell.</p>')

    button.on_click(pressed)
    display(VBox([button, progress, end]))
