"""The leaderboard: which videos may stand in one table, the tables, the page."""
