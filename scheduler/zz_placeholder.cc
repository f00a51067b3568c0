namespace quantd {}
