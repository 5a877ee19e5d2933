"""`python -m keras_spd` is `keras-spd`."""

from keras_spd.cli import main

main()
