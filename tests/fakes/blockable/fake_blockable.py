BOOM = 1 / 0
