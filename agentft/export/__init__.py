"""An agent in the form that another program runs, read back and compared with the agent. One file per form."""
