"""The paper's tables at small scale, and how fast this machine is.

    tables        what the cells of the tables are
    reproduce     measuring them, going on where stopped
    bench         both stages' throughput, beside diffusers'
"""
