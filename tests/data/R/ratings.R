# Makes ../ratings.csv, ../ratings_metrics.csv and ../ratings_pairs.csv, which the other scripts read.
# Nine raters, four sources and four drivings of two types, two methods, two criteria: full of ties.
# `some` marks answers of a study in which raters see different clips.
set.seed(20)
stimuli <- function(name) paste0(name, c("_front0", "_front1", "_side0", "_side1"))
clips <- expand.grid(source = stimuli("s"), driving = stimuli("d"), method = c("fomm", "warp"))
spread <- function(sd, group) rnorm(nlevels(factor(group)), 0, sd)[as.integer(factor(group))]
quality <- spread(0.4, clips$source) + spread(0.4, clips$driving) + rnorm(nrow(clips), 0, 0.4) +
  0.3 * (clips$method == "fomm")
d <- merge(data.frame(rater = paste0("r", 1:9)), cbind(clips, quality))
level <- spread(0.4, d$rater) + spread(0.25, paste(d$rater, d$method))
answer <- function(slope) pmin(pmax(round(3 + slope * d$quality + level + rnorm(nrow(d), 0, 0.6)), 1), 5)
d$naturalness <- answer(1)
d$jitter <- answer(0.5)
d$some <- as.integer(runif(nrow(d)) < 0.4)
d <- d[order(d$rater, d$source, d$driving, d$method), ]
write.csv(d[c("rater", "source", "driving", "method", "naturalness", "jitter", "some")],
          "../ratings.csv", row.names = FALSE, quote = FALSE)
# The first bends with quality, the second hardly knows it.
clips$motion <- round(exp(0.8 * quality + rnorm(nrow(clips), 0, 0.3)), 4)
clips$identity <- round(0.3 * quality + rnorm(nrow(clips)), 4)
write.csv(clips, "../ratings_metrics.csv", row.names = FALSE, quote = FALSE)
# Forced choices between three methods, 0 or 1 for the first
methods <- c("copy", "fomm", "warp")
pairs <- merge(data.frame(rater = paste0("r", 1:8)),
               expand.grid(source = stimuli("s"), driving = stimuli("d")[1:3]))
pairs$first <- sample(methods, nrow(pairs), TRUE)
pairs$second <- sapply(pairs$first, function(one) sample(setdiff(methods, one), 1))
strength <- c(copy = -0.5, fomm = 0.4, warp = 0.1)
tilt <- spread(0.5, paste(pairs$source, pairs$first)) - spread(0.5, paste(pairs$source, pairs$second))
odds <- strength[pairs$first] - strength[pairs$second] + tilt
pairs$won <- as.integer(runif(nrow(pairs)) < plogis(odds))
write.csv(pairs, "../ratings_pairs.csv", row.names = FALSE, quote = FALSE)
