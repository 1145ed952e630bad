"""The kinds of weather at the exchange: which requests meet which fault. Pure."""

LATE = 0.25  # a request that is held on its way

ADD, CANCEL = "POST /market/orders/add", "POST /market/orders/update-status"
STATUS, LIST, TRADES = "POST /market/orders/status", "GET /market/orders/list", "GET /market/trades/list"


def faults(weather):
    """The rules of one kind of weather; each share is of all requests of its route."""
    add = [
        ("answer_lost", 0.04, {}),
        ("request_lost", 0.03, {}),
        ("reset", 0.01, {}),
        ("reset", 0.01, {"processed": True}),
        ("http_500", 0.01, {}),
        ("http_500", 0.01, {"processed": True}),
        ("http_502", 0.01, {}),
        ("http_502", 0.01, {"processed": True}),
        ("http_503", 0.005, {}),
        ("http_504", 0.01, {}),
        ("truncated_json", 0.01, {}),
        ("truncated_json", 0.01, {"variant": "cut"}),
        ("delay", 0.015, {"seconds": 1.0}),
        ("late", 0.015, {"seconds": LATE}),
        ("late_close", 0.015, {"seconds": LATE}),
        ("throttle", 0.005, {"seconds": 1}),
        ("drip", 0.005, {"seconds": 0.05}),
        ("no_id", 0.01, {}),
        ("wrong_id", 0.01, {}),
    ]
    read = [
        ("answer_lost", 0.015, {}),
        ("reset", 0.01, {}),
        ("http_500", 0.015, {}),
        ("http_502", 0.015, {}),
        ("truncated_json", 0.01, {}),
        ("delay", 0.005, {"seconds": 1.0}),
        ("throttle", 0.002, {"seconds": 1}),
        ("drip", 0.002, {"seconds": 0.05}),
    ]
    cancel = [
        ("answer_lost", 0.06, {}),
        ("request_lost", 0.04, {}),
        ("http_502", 0.03, {}),
        ("late_close", 0.02, {"seconds": LATE}),
    ]
    if weather == "calm":
        return []
    if weather == "repeating":  # a proxy delivers twice; the exchange's rule against equal orders is on
        add = [("duplicate", 0.05, {}), *add]
    if weather == "lost":  # nothing but lost answers
        return [_rule(ADD, "answer_lost", 0.4, {})]
    if weather == "half lost":  # orders and answers, so that of two equal orders one may be there
        return [_rule(ADD, "answer_lost", 0.4, {}), _rule(ADD, "request_lost", 0.4, {})]
    if weather == "late":
        return [_rule(ADD, "late_close", 0.5, {"seconds": 1.2})]
    if weather == "wrong":
        return [_rule(ADD, "wrong_id", 0.4, {})]
    if weather == "throttled":
        return [_rule(ADD, "throttle", 0.5, {"seconds": 1})]
    if weather == "dropped":  # nothing but orders and cancels that never arrive, or arrive late
        return [
            _rule(ADD, "request_lost", 0.2, {}),
            _rule(ADD, "late_close", 0.15, {"seconds": LATE}),
            _rule(CANCEL, "request_lost", 0.2, {}),
        ]
    if weather == "blind":  # for mutants: orders work, their answers are lost, and most reads fail
        return [
            _rule(ADD, "answer_lost", 0.9, {}),
            *(_rule(route, "http_502", 0.97, {}) for route in (STATUS, LIST, TRADES)),
        ]
    rules = [_rule(ADD, kind, share, more) for kind, share, more in add]
    rules += [_rule(CANCEL, kind, share, more) for kind, share, more in cancel]
    rules += [_rule(route, kind, share, more) for route in (STATUS, LIST, TRADES) for kind, share, more in read]
    rules += [_rule(route, "short_list", 0.01, {}) for route in (LIST, TRADES)]
    rules += [_rule("GET /v3/orderbook", "http_502", 0.01, {}), _rule("GET /v2/options", "http_502", 0.05, {})]
    return rules


def _rule(route, kind, share, more):
    return {"route": route, "kind": kind, "probability": share, **more}
