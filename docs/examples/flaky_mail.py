"""Send mail through a server that is not always there: retries with growing pauses, and a call for what fails for good.

Run ``python flaky_mail.py``. It prints::

    ada@example.org: sent at attempt 2
    bob@example.org: SMTPError: no such mailbox
"""

import threading

from queuekit import Context, Exponential, Failure, Queuekit, TaskFailed

app = Queuekit()


class SMTPError(Exception):
    """The server refuses a mail, so trying again does not help."""


@app.task(retries=5, retry=Exponential(base=0.1), dont_retry=SMTPError)
def send_mail(ctx: Context, to: str) -> str:
    """Send a mail; the server of this example is down at first, and knows no Bob."""
    if ctx.attempt < 2:
        raise ConnectionError("the mail server does not answer")
    if to.startswith("bob"):
        raise SMTPError("no such mailbox")
    return f"sent at attempt {ctx.attempt}"


@app.task
def note(failure: Failure) -> str:
    """Return what there is to tell the team."""
    return f"{failure.error_type}: {failure.error}"


def main() -> None:
    """Send two mails, and look at what became of both."""
    worker = app.worker()
    thread = threading.Thread(target=worker.run)
    thread.start()
    ada = send_mail.send("ada@example.org")
    bob = send_mail.options(on_error=[note.s().options(id="bob-failed")]).send("bob@example.org")
    try:
        print("ada@example.org:", ada.get(timeout=60))
        bob.get(timeout=60)
    except TaskFailed:
        print("bob@example.org:", app.result("bob-failed").get(timeout=60))
    finally:
        worker.stop()
        thread.join()


if __name__ == "__main__":
    main()
