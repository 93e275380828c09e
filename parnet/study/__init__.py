"""Scaling studies: how much faster does more of the machine make a training, and why not more? Stage: study, outermost.

| module       | what it does                                                        |
|--------------|---------------------------------------------------------------------|
| `machine`    | the machine's record, and the meter of other load                   |

Must not know: command lines.
"""
