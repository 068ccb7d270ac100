"""Where and when to take samples, before there are any: equal area, and by season."""

from shards.sampling.locations import PlanRow, draw_candidates, draw_cells, plan, write_plan

__all__ = ["PlanRow", "draw_candidates", "draw_cells", "plan", "write_plan"]
