"""The cloud server: servicer -> admission -> model -> servicer."""
