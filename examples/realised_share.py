"""How much of the partner each mix really shows: python -m examples.realised_share.

Prints the table of docs/mixing.md: the mean of 1 - lam over all digits and several draws each,
for every registered mix. Guided mixes get spectral saliency, which needs no classifier. At 32
pixels the digits are the same ones, enlarged.
"""

from agents.mix_pages import share_table
from automix.mixes import MIXES

if __name__ == "__main__":
    print(share_table(MIXES))
