"""Who decides: agents that learn a mix policy, hand-designed schedules, and their comparison."""
