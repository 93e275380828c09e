"""Whether threads still pay, judged by the clock. Stage: executors. Pure: told times, asked for decisions.

Parts that wait for each other need their cores at the same time. Where other programs sit on the cores a part may be away
for milliseconds at each barrier: two threads on two taken cores took 20 to 40 times one thread's time on small networks. So
when parts mostly wait, a few batches are run by one thread alone (same parts, same bits), and the faster way is kept; the
other is tried again after a pause that doubles each time it loses. The first pause is short: what takes a core may be the
thread that reads the next samples, and be done in a moment. Must not know: kernels, programs.
"""

from __future__ import annotations

from dataclasses import dataclass

#: parts that wait a larger share of a run are suspected to lack cores
SUSPECT = 0.6
#: seconds of runs that tell enough: in less, the thread that reads samples may have held a core all the while
ENOUGH_S = 0.02
#: seconds between tries of the way that lost
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 60.0
#: seconds of a try, if the batches are that many, but no larger a share of the pause before it
TRY_S, TRY_SHARE = 0.01, 0.1
#: one thread must take less than this much of the threads' time to replace them, and they to come back: they are what was
#: asked for, and on two cores seldom take less than 0.7 of its time
BETTER, COME_BACK = 0.7, 0.95


@dataclass
class Pace:
    """The pace of one program's runs.

    Attributes:
        alone: one thread does all parts.
        batch_s: seconds a batch, the way it is run now.
    """

    alone: bool = False
    batch_s: float = 0.0
    suspected: bool = False
    looked_s: float = 0.0
    waited_s: float = 0.0
    again_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S

    def to_try(self, batches: int, now: float) -> int:
        """How many of the next batches to run the other way; 0 for none.

        Args:
            batches: there are to run; now: seconds of a clock.
        """
        if not (self.alone or self.suspected) or now < self.again_at or not self.batch_s:
            return 0
        wanted = max(1, int(min(TRY_S, TRY_SHARE * self.pause_s) / self.batch_s))
        if self.alone and 2 * wanted > batches and now < self.again_at + self.pause_s:
            return 0  # a short run, such as the first of new samples: a longer one may come
        return min(batches, wanted)

    def tried(self, batch_s: float, now: float) -> bool:
        """The other way took so many seconds a batch. Returns whether it is the way from now on."""
        better = batch_s < (COME_BACK if self.alone else BETTER) * self.batch_s
        if better:
            self.alone, self.batch_s, self.suspected = not self.alone, batch_s, False
        if better and not self.alone:
            self.again_at, self.pause_s = 0.0, max(FIRST_PAUSE_S, self.pause_s / 2)
        else:
            self.again_at, self.pause_s = now + self.pause_s, min(LONGEST_PAUSE_S, 2 * self.pause_s)
        return better

    def ran(self, batch_s: float, waited: float, seconds: float = ENOUGH_S) -> None:
        """The usual way took so many seconds a batch, of which its parts waited that share, for so many seconds."""
        self.batch_s, self.looked_s, self.waited_s = batch_s, self.looked_s + seconds, self.waited_s + waited * seconds
        if self.alone or self.looked_s >= ENOUGH_S:
            self.suspected = not self.alone and self.waited_s > SUSPECT * self.looked_s
            self.looked_s = self.waited_s = 0.0
