"""What conversion costs, route by route and technique by technique, on a hybrid of real data."""
