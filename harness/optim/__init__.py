"""How weights move: schedules of whatever changes while a run trains."""
