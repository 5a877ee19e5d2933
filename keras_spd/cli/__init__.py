"""The command line `keras-spd`: parse, call, print."""

from keras_spd.cli.main import main as main
