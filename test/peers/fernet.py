"""Seals and opens with Python's cryptography: one JSON request on standard input, one JSON answer."""

import json
import sys

from cryptography.fernet import Fernet

request = json.load(sys.stdin)
fernet = Fernet(request["key"])
answer = {
    "opened": [fernet.decrypt(token).decode() for token in request["open"]],
    "sealed": [fernet.encrypt(text.encode()).decode() for text in request["seal"]],
}
json.dump(answer, sys.stdout)
