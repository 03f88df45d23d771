# Makes ../correlation.json from ../ratings.csv and ../ratings_metrics.csv: Rscript correlation.R
# (R with lme4, psych and jsonlite) Criteria within raters, metrics within stimuli, ITU-T P.1401.
suppressMessages({library(lme4); library(psych)})
d <- read.csv("../ratings.csv", stringsAsFactors = TRUE)
clips <- read.csv("../ratings_metrics.csv", stringsAsFactors = TRUE)
d$clip <- interaction(d$source, d$driving, d$method)
clips$clip <- interaction(clips$source, clips$driving, clips$method)
criteria <- c("naturalness", "jitter"); metrics <- c("motion", "identity")

r <- sapply(split(d, d$rater), function(its) cor(its$naturalness, its$jitter))
within <- fisherz2r(c(mean(fisherz(r)), t.test(fisherz(r))$conf.int))

# Scores without raters' levels: a mixed model whose variance of raters is that of an answer
scores <- function(d, name) {
  deviance <- lmer(reformulate(c("0", "clip", "(1 | rater)"), name), d, devFunOnly = TRUE)
  deviance(1)
  setNames(environment(deviance)$pp$beta(1), levels(d$clip))
}
some <- d[d$some == 1, ]
scored <- list(whole = sapply(criteria, scores, d = d), some = sapply(criteria, scores, d = some))

z <- function(r) atanh(pmin(pmax(r, -0.999), 0.999))
tested <- function(statistic, back) {  # the jackknife over clips, sources and drivings
  groups <- list(seq_len(nrow(clips)), clips$source, clips$driving)
  v <- sapply(groups, function(group) {
    left <- sapply(unique(group), function(one) statistic(group != one)); n <- length(left)
    (n - 1) / n * sum((left - mean(left))^2)
  })
  df <- sapply(groups, function(group) length(unique(group))) - 1
  more <- pmax(v[-1] - v[1], 0); total <- v[1] + sum(more)
  freedom <- total^2 / (v[1]^2 / df[1] + sum(ifelse(more > 0, v[-1]^2 / df[-1], 0)))
  whole <- statistic(rep(TRUE, nrow(clips))); half <- qt(0.975, freedom) * sqrt(total)
  c(back(c(whole, whole - half, whole + half)), 2 * pt(-abs(whole) / sqrt(total), freedom))
}
named <- function(x, first) setNames(as.list(x), c(first, "low", "high", "p"))
same <- identity
metric <- lapply(setNames(metrics, metrics), function(m) lapply(setNames(criteria, criteria), function(name) {
  y <- scored$whole[as.character(clips$clip), name]
  named(tested(function(keep) {
    rest <- function(v) resid(lm(v[keep] ~ source + driving + method, clips[keep, ]))
    z(cor(rest(clips[[m]]), rest(y)))
  }, tanh), "r")
}))

# P.1401 on the mean over the criteria
d$mean <- (d$naturalness + d$jitter) / 2
at <- as.character(clips$clip)
y <- tapply(d$mean, d$clip, mean)[at]; n <- tapply(d$mean, d$clip, length)[at]
ci <- qt(0.975, n - 1) * tapply(d$mean, d$clip, sd)[at] / sqrt(n)
mapped <- function(x, y) {
  cubic <- lm(y ~ poly(x, 3)); line <- lm(y ~ x)
  steps <- diff(predict(cubic, data.frame(x = seq(min(x), max(x), length.out = 20001))))
  if (all(steps >= 0) || all(steps <= 0)) cubic else line
}
plcc <- function(keep, m) z(cor(fitted(mapped(clips[[m]][keep], y[keep])), y[keep]))
prediction <- lapply(setNames(metrics, metrics), function(m) {
  fit <- mapped(clips[[m]], y)
  c(named(tested(function(keep) plcc(keep, m), tanh), "plcc"),
    list(rmse = sigma(fit), outlier_ratio = mean(abs(resid(fit)) > ci), coefficients = length(coef(fit))))
})
prediction$both <- named(tested(function(keep) plcc(keep, "motion") - plcc(keep, "identity"), same), "plcc")
versions <- paste0("R ", getRversion(), ", lme4 ", packageVersion("lme4"), ", psych ",
                   packageVersion("psych"), ": correlation.R")
by_clip <- function(table) setNames(asplit(unname(table), 1), gsub(".", "__", rownames(table), fixed = TRUE))
result <- list(source = versions, criteria = within, scores = lapply(scored, by_clip), metric = metric,
               prediction = prediction)
writeLines(jsonlite::toJSON(result, auto_unbox = TRUE, digits = NA, pretty = TRUE), "../correlation.json")
