"""`python -m keras_spd`, the same as the command `keras-spd`."""

from keras_spd.cli import main

if __name__ == "__main__":
    main()
