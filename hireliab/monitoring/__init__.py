"""
Tells people.

alert            Alert, AlertLevel, AlertSource
alert_channels   console and callable, what a channel answers, how an alert reads
apprise_channel  any of Apprise's services; the only file that names apprise
alert_groups     dedup, grouping, repeat, resolve; pure
alert_spool      unsent alerts on disk
alert_system     AlertSystem: the door
log_handler      AlertHandler: log lines as alerts; hooks for uncaught exceptions
metrics          Metrics: the figures of every part in one snapshot; Prometheus
health           HealthMonitor: healthy, degraded or down, with the reasons in words
"""
