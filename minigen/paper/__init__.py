"""The paper's tables at small scale, how fast this machine is, and how fast models learn.

    tables        what the cells of the tables are
    reproduce     measuring them, going on where stopped
    bench         both stages' throughput, beside diffusers'
    quality       how good each family becomes in so many minutes of a processor
    families      how each is trained for that
"""
