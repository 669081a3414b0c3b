"""The verdict on recovered ratings: what an audit's numbers mean, in plain language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxinv.reports.verdict import Verdict, count

MOST = 0.8
"""Share of a user's ratings that are exact from which most of them are called so; of
interactions the F1 score."""

CLOSER = 0.5
"""A mean error of this share of a guess's, or less, is called closer than guessing."""

RATINGS = {
    "exact": "every {rating} exact",
    "most": "most {rating}s exact",
    "closer": "closer than guessing",
    "nothing": "little or nothing",
}
"""What one user's ratings or interactions can be called, worst leak first."""

STATUSES = {
    "GAVE_UP": "the attack gave up: what it observed does not determine the {rating}s",
    "UNDERDETERMINED": "the attack says itself that other {rating}s fit as well",
    "DIVERGED": "every start of the attack diverged",
    "INTERRUPTED": "the attack was stopped on its way",
}
"""What the attack said of its own result, where it did not end well."""


def noun(report: Mapping[str, Any]) -> str:
    """What the audit's clients train on: `rating`, or `interaction`."""
    return "interaction" if report["settings"]["implicit"] else "rating"


def words(report: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, str]:
    """`RATINGS` or `STATUSES` as they read in this report."""
    return {key: text.format(rating=noun(report)) for key, text in table.items()}


def rate(user: Mapping[str, Any]) -> str:
    """The key of `RATINGS` for one user."""
    mae, exact, guess = user["mae"], user["exact"], user["guess_mae"]
    # Most interactions are negatives, so that who finds none has most of them right.
    share = user.get("f1", exact)
    if exact == 1:
        return "exact"
    if share is not None and share >= MOST:
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
    of, rating = f"of {count(n, 'user')}", noun(report)
    if exact:
        level = "exact"
        headline = f"Every {rating} of {exact} {of} was recovered exactly."
    elif most:
        level = "recognisable"
        headline = f"Most {rating}s of {most} {of} were recovered exactly."
    elif closer:
        level = "traces"
        headline = (
            f"The {rating}s of {closer} {of} were partly recovered: at most half as "
            "far off as a guess."
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
    n, rating = summary["users"], noun(report)
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
        implicit = rating == "interaction"
        guess = "what is true of most items" if implicit else "the data's median rating"
        found.append(
            f"Who says {guess} everywhere, without any update, is off "
            f"by {summary['guess_mae_mean']:.2g} on average and right for "
            f"{100 * summary['guess_exact_mean']:.0f} % of the {rating}s."
        )
    if "items" in report["withheld"] and summary.get("items_f1_mean") is not None:
        found.append(
            "Which items are rated was hidden by noise on every row: the attack found "
            f"them with an F1 score of {summary['items_f1_mean']:.2f} on average."
        )
    for name, text in words(report, STATUSES).items():
        times = summary["statuses"].get(name, 0)
        if times:
            found.append(f"For {times} of {count(n, 'user')} {text}.")
    wrong = round(n * summary["matched_but_wrong_share"])
    if wrong:
        found.append(
            f"For {wrong} of {count(n, 'user')} the recovered {rating}s explain the "
            f"updates perfectly and some are wrong: other {rating}s make the same "
            "updates."
        )
    return found
