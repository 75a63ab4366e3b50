"""The fleet: which device has which model, who may change that, and campaigns that change it in stages."""
