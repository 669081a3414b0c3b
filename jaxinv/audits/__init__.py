"""Audits: simulate a client, attack what it sends, judge what was recovered.

One room a case, each with a configuration that is checked when it is made, the audit
that runs it, the judge who holds the truth against the result, and the record of it
all. What the rooms share lies beside them.
"""

CASES: dict[str, str] = {
    "images": "a client's images, from one gradient of a classifier",
    "recommender": "users' ratings, from rounds of a federated recommender",
    "molecules": "a client's molecule, from one gradient of a graph network",
    "citations": "a client's papers and their citations, likewise",
    "update": "what a real client sent, in files, of a model of your own",
}
"""What can be audited, by name: a room here, one in `reports`, a file in `cli`.
"molecules" and "citations" share the rooms `graphs`."""
