"""The engine in the box: an HTTP server of OpenAI's fine-tuning API that really trains open weights.

Nothing here imports the rest of `finetune`, and the rest knows only an address and a key.
Start it by itself with: finetune serve
"""

import os

# Threads of OpenMP that wait by spinning keep each other from working as soon as two processes share the cores: 3 times
# the speed for each of two trainings on two cores, and none lost alone. It is read when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
