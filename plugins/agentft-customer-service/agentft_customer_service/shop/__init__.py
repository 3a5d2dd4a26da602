"""The shop's desk: a database of customers and orders, the tools over it, tasks for an agent, and demonstrations."""
