"""An application behind Portcullis: it checks passwords, and leaves sessions to the gateway."""

import os
import re
from urllib.parse import quote, unquote

from flask import Flask, redirect, render_template_string, request

app = Flask(__name__)
users = {"alice": "wonderland", "bob": "builder"}  # yours: the users table, with hashed passwords

LOGIN = """<!doctype html><title>Example</title><p>{{ message }}</p>
<form method="post" action="/login?return_to={{ wanted | urlencode }}">
  <input name="user" placeholder="alice"> <input name="password" type="password" placeholder="wonderland">
  <button>Log in</button>
</form>"""

HOME = """<!doctype html><title>Example</title><p>Hello, {{ user }}.</p>
<form method="post" action="/logout"><button>Log out</button></form>"""


def way_back():
    """The gateway sends visitors without a session to the login, with the path that they asked for.

    Only a path of this site will do.
    """
    asked = request.args.get("return_to", "/")
    return asked if re.fullmatch(r"/(?!/)[^\\\s]*", asked) else "/"


@app.get("/login")
def login_page():
    return render_template_string(LOGIN, message="Who are you?", wanted=way_back())


@app.post("/login")
def login():
    user = request.form.get("user", "")
    if user not in users or users[user] != request.form.get("password"):
        return render_template_string(LOGIN, message="That is not right.", wanted=way_back()), 401
    response = redirect(way_back(), code=303)
    response.headers["portcullis-login"] = quote(user, safe="")  # this opens the session
    return response


@app.get("/")
def home():
    """Everything else is asked for by somebody who is logged in; the gateway says who."""
    return render_template_string(HOME, user=unquote(request.headers["x-user-id"]))


if __name__ == "__main__":
    # This machine only: whoever reached the application past the gateway could call themselves anybody.
    app.run(host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "3000")))
