"""How much of the partner each mix really shows: python -m examples.realised_share.

Prints the table of docs/mixes/README.md: the mean of what is not the image's own, over all digits
and several draws each, for every registered mix of images. Guided mixes get spectral saliency,
which needs no classifier. At 32 pixels the digits are the same ones, enlarged.
"""

from functools import partial

from automix.mixes import MIXES
from tools.mix_pages import share_table
from tools.mix_pages.shares import ROUNDS, realised_share


def main(rounds=ROUNDS):
    print(share_table(MIXES, partial(realised_share, rounds=rounds)))


if __name__ == "__main__":
    main()
