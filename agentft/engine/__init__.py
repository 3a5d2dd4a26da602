"""Models in process: where they come from, on what device and dtype they run, how they generate and score."""

import os

# Before torch is loaded, because libgomp reads it then. Threads wait for each other by spinning, by default for so long that one
# other busy process on a two-core machine makes a training step 20 times slower. With a short spin it is 1.5 times, and an idle
# machine is as fast as before (sleeping at once, OMP_WAIT_POLICY=PASSIVE, costs a quarter there).
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
