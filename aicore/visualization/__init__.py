"""Pictures: functions that draw, shared by every task."""
