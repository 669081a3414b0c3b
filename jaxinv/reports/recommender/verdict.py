"""The verdict on recovered ratings: what an audit's numbers mean, in plain language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxinv.reports.verdict import Verdict, count

MOST = 0.8
"""Share of a user's ratings that are exact from which most of them are called so."""

CLOSER = 0.5
"""A mean error of this share of a guess's, or less, is called closer than guessing."""

RATINGS = {
    "exact": "every rating exact",
    "most": "most ratings exact",
    "closer": "closer than guessing",
    "nothing": "little or nothing",
}
"""What one user's ratings can be called, worst leak first."""

STATUSES = {
    "GAVE_UP": "the attack gave up: what it observed does not determine the ratings",
    "UNDERDETERMINED": "the attack says itself that other ratings fit as well",
    "DIVERGED": "every start of the attack diverged",
    "INTERRUPTED": "the attack was stopped on its way",
}
"""What the attack said of its own result, where it did not end well."""


def rate(user: Mapping[str, Any]) -> str:
    """The key of `RATINGS` for one user."""
    mae, exact, guess = user["mae"], user["exact"], user["guess_mae"]
    if exact == 1:
        return "exact"
    if exact is not None and exact >= MOST:
        return "most"
    if mae is not None and mae <= CLOSER * guess:
        return "closer"
    return "nothing"


def judge(report: Mapping[str, Any]) -> Verdict:
    """The verdict on a report, by `rate`."""
    users = report["users"]
    n = len(users)
    if not n:
        return Verdict("none", "No user was finished; there is nothing to judge.", ())
    ratings = [rate(user) for user in users]
    exact, most, closer = (ratings.count(r) for r in ("exact", "most", "closer"))
    of = f"of {count(n, 'user')}"
    if exact:
        level = "exact"
        headline = f"Every rating of {exact} {of} was recovered exactly."
    elif most:
        level = "recognisable"
        headline = f"Most ratings of {most} {of} were recovered exactly."
    elif closer:
        level = "traces"
        headline = (
            f"The ratings of {closer} {of} were partly recovered: at most half as far "
            "off as a guess."
        )
    elif report["summary"]["gave_up_share"] == 1:
        level = "nothing"
        every = "the user" if n == 1 else f"all {n} users"
        headline = f"This attack gave up on {every} and recovered nothing usable."
    else:
        level = "nothing"
        headline = f"This attack recovered nothing usable from {count(n, 'user')}."
    return Verdict(level, headline, tuple(_details(report)))


def _details(report: Mapping[str, Any]) -> list[str]:
    summary, found = report["summary"], []
    n = summary["users"]
    if "embedding" in report["knowledge"]:
        found.append(
            "The attacker was given the users' private embeddings, which never leave a "
            "client: this is an upper bound on what it could do, not a threat."
        )
    elif report["settings"].get("embedding") == "random":
        found.append("The embeddings were left as drawn at random: this is a baseline.")
    if report["interrupted"]:
        found.append("The audit was stopped early: users not begun are missing.")
    if summary["guess_mae_mean"] is not None:
        found.append(
            f"Who says the data's median rating everywhere, without any update, is off "
            f"by {summary['guess_mae_mean']:.2g} on average and right for "
            f"{100 * summary['guess_exact_mean']:.0f} % of the ratings."
        )
    for name, words in STATUSES.items():
        times = summary["statuses"].get(name, 0)
        if times:
            found.append(f"For {times} of {count(n, 'user')} {words}.")
    wrong = round(n * summary["matched_but_wrong_share"])
    if wrong:
        found.append(
            f"For {wrong} of {count(n, 'user')} the recovered ratings explain the "
            "updates perfectly and some are wrong: other ratings make the same updates."
        )
    return found
