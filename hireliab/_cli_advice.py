"""What a person should do next about a transaction, in words: what to look at, and which command to type."""

from __future__ import annotations

from hireliab._cli_text import local_time
from hireliab.core import money
from hireliab.exchange.transaction import Proof, Record, State, Verdict

_FAILED = {
    Proof.DENIED: "It was refused before anything was sent; the reason is above. There is nothing at the exchange.",
    Proof.NOT_SENT: "Nothing was sent. There is nothing at the exchange; the bot may ask again with a new transaction.",
    Proof.REJECTED: "The exchange refused it; the reason is above. There is nothing at the exchange.",
    Proof.CLOSED_UNFILLED: "The exchange closed it, and nothing of it was filled. Nothing to do.",
    Proof.FENCED: "It is proven that nothing of it is at the exchange. Nothing to do.",
    Proof.OPERATOR: "A person decided that nothing of it exists; the name is above. Nothing to do.",
}


def unit(symbol: str, *, quote: bool = False) -> str:
    """The currency of an amount, or of a price; BTC/IRT is priced in rial."""
    base, _, priced = symbol.partition("/")
    return ("rial" if priced == "IRT" else priced) if quote else base


def words(record: Record) -> str:
    """The order in one line."""
    order = record.order
    amount = f"{money.text(order.amount)} {unit(order.symbol)}".strip() if order.amount else ""
    # Of a call of the user's own function not everything is known.
    parts = [order.type, order.side, amount, f"on {order.symbol}" if order.symbol else ""]
    text = " ".join(part for part in parts if part) or "a call of your own function"
    if order.price is not None:
        about = "at" if order.type not in ("market", "stop_market") else "expected at"
        text += f" {about} {money.text(order.price)} {unit(order.symbol, quote=True)}"
    if order.stop_price is not None:
        text += f", stop at {money.text(order.stop_price)} {unit(order.symbol, quote=True)}"
    return text


def advice(record: Record, *, live: bool, options: str) -> str:
    """
    Args:
        live: Whether a bot runs on the journal.
        options: --name or --journal as the user gave them.
    """
    state = record.state
    if state is State.COMPLETED:
        return _completed(record, options)
    if state is State.FAILED:
        return _failed(record, live)
    if state is State.ROLLED_BACK:
        return "The order is closed, and nothing of it was filled. Nothing to do."
    if state is State.PREPARED:
        return "Nothing was sent yet. " + (
            "Wait a moment, and look again." if live else "The next start of the bot ends it as not sent."
        )
    if record.needs_human:
        return _person(record, options)
    if not live:
        return (
            "No bot runs, and the order may be live at the exchange. Start the bot: it looks for the order before it does"
            " anything else, and sends nothing twice. Do not place the order again by hand."
        )
    if state in (State.ACKED, State.WORKING):
        return (
            f"The exchange has it as order {record.order_id}, and the bot waits until it is {record.commit}. To take it"
            f" out of the book:\n{_command('cancel', record, options)}"
        )
    if state is State.CANCELLING:
        return "The bot cancels the order, and reads until it is closed. Wait, and look again."
    if state is State.SUBMITTING:
        return "It is being sent now. Wait a few seconds, and look again."
    return (
        "The bot looks for the order. Do not place it again: it may be live. Look again in a minute; when the bot cannot"
        " find out by itself, this page says so."
    )


def _completed(record: Record, options: str) -> str:
    if record.is_open_at_venue:
        return (
            f"Decided: order {record.order_id} rests in the book, and the bot follows its fills. To take it out:\n"
            f"{_command('cancel', record, options)}"
        )
    if record.verdict is Verdict.PARTIAL:
        base = unit(record.order.symbol)
        return (
            f"Decided: {money.text(record.filled)} {base} were filled, and {money.text(record.remaining)} {base} were not"
            " and will not be. Who still wants the rest needs a new order."
        )
    if record.proof is Proof.ACKNOWLEDGED:
        return "The function returned, and nobody read back what it did. Look at the exchange if it matters."
    return "Decided. Nothing to do."


def _failed(record: Record, live: bool) -> str:
    if record.proof is not Proof.ABSENT:
        return _FAILED.get(record.proof, "Decided. Nothing to do.")
    until = "" if record.watch_until is None else f" until {local_time(record.watch_until)}"
    watch = f"The bot goes on looking{until}" if live else f"No bot runs; a started one goes on looking{until}"
    return (
        f"No look-up shows the order, but the exchange gives no proof that it will not appear. {watch}, and tells when it"
        f" does. Before you place it again, look at the exchange's order history for {_where(record)}."
    )


def _where(record: Record) -> str:
    sent = "" if record.sent_wall is None else f", sent {local_time(record.sent_wall)}"
    return f"{words(record)} with the client order id {record.order.client_order_id or '-'}{sent}"


def _person(record: Record, options: str) -> str:
    look = f"Look at the exchange's open orders and order history for {_where(record)}."
    lines = [f"The bot cannot find out what became of it; only a person can. {look}"]
    if record.candidates:
        lines.append(f"It may be one of these orders: {', '.join(record.candidates)}.")
    if record.kind == "CALL":
        lines.append("It is a call of your own function: look for whatever that does at the exchange.")
    say = f"hireliab transactions resolve {record.txn_id}{options}"
    lines += [
        "If it is there, open or filled (the bot reads the order before it believes you):",
        f'  {say} --as completed --order-id NUMBER --evidence "what you saw"',
        "If it is there, closed, with nothing filled:",
        f'  {say} --as cancelled --evidence "what you saw"',
        "If it is in neither list:",
        f'  {say} --as failed --evidence "what you saw"',
    ]
    return "\n".join(lines)


def _command(name: str, record: Record, options: str) -> str:
    return f"  hireliab transactions {name} {record.txn_id}{options}"
