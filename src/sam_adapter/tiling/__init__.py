"""Large pictures tile by tile: where tiles lie, what is asked in each, and how their answers become one."""
