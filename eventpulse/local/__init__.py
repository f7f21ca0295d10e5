"""What `eventpulse up` needs on one machine: embedded servers and a supervisor."""
