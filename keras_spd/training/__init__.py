"""Training: recipes, and the one path from a recipe to a trained model."""

from keras_spd.optimizers import CoupledSGD as CoupledSGD
from keras_spd.optimizers import MultiStepDecay as MultiStepDecay
from keras_spd.training.fit import train as train
from keras_spd.training.recipe import Recipe as Recipe
from keras_spd.training.recipe import list_recipes as list_recipes
from keras_spd.training.recipe import load_recipe as load_recipe
