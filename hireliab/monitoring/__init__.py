"""
Tells people.

alert           Alert, AlertLevel, AlertSource
alert_channels  console and callable
alert_system    AlertSystem: the door
"""
