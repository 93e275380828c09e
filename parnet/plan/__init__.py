"""A model as plain data: steps over one arena. Stage: plan, between the layers and the executors.

`plan.py` puts a plan together, `builder.py` collects steps, `layout.py` places buffers, `schedule.py` cuts and orders.
"""
