"""Where on its way a packet is let down: the path as configured, beside the one that was intended."""
