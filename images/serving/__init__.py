"""What hal0's own engine servers have in common: a slot's secret, one worker, honest health, an end that drains."""
