"""The engine in the box: an HTTP server of OpenAI's fine-tuning API that really trains open weights.

Nothing here imports the rest of `finetune`, and the rest knows only an address and a key.
Start it by itself with: finetune serve
"""
