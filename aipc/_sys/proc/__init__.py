"""What /proc tells of other processes: their open files, locks and bound sockets."""
