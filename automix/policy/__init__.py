"""What is taken home: schedules, policies, rules, and the policies that come along."""
