# Makes ../agreement.json from ../ratings.csv: Rscript agreement.R (R with psych, lme4 and jsonlite)
# Intraclass correlations, the same from mean squares where raters saw different clips, SOS.
suppressMessages({library(psych); library(lme4)})
d <- read.csv("../ratings.csv", stringsAsFactors = TRUE)
d$clip <- interaction(d$source, d$driving, d$method)
criteria <- c("naturalness", "jitter")
whole <- lapply(setNames(criteria, criteria), function(name) {
  table <- tapply(d[[name]], list(d$clip, d$rater), mean)
  # Mean squares, and not REML: psych's default leaves out what REML sets to zero.
  icc <- ICC(table, lmer = FALSE)$results
  m <- apply(table, 1, mean); room <- (m - 1) * (5 - m)
  parts <- as.data.frame(VarCorr(lmer(reformulate(c("(1 | clip)", "(1 | rater)"), name), d)))
  list(icc = setNames(lapply(1:6, function(i) unlist(icc[i, c("ICC", "lower bound", "upper bound")],
                                                     use.names = FALSE)), icc$type),
       variances = setNames(as.list(parts$vcov), parts$grp),
       sos = unname(coef(lm(apply(table, 1, var) ~ 0 + room))))
})
# Henderson's method III: sums of squares of nested fits, equated with their expectations
d <- droplevels(d[d$some == 1, ])
some <- lapply(setNames(criteria, criteria), function(name) {
  d$value <- d[[name]]
  clips <- anova(lm(value ~ rater + clip, d)); raters <- anova(lm(value ~ clip + rater, d))
  expected <- function(of, other) {  # the variance's coefficient in the mean square
    x <- model.matrix(reformulate(c("0", of)), d); q <- qr(model.matrix(reformulate(other), d))
    sum(qr.resid(q, x)^2)
  }
  error <- clips["Residuals", "Mean Sq"]
  beyond <- function(table, of) table[of, "Sum Sq"] - table[of, "Df"] * error
  clip <- beyond(clips, "clip") / expected("clip", "rater")
  rater <- max(beyond(raters, "rater") / expected("rater", "clip"), 0)
  # Thomas and Hultquist (1978): F of the clips, beyond the raters
  k <- expected("clip", "rater") / clips["clip", "Df"]
  f <- clips["clip", "F value"] / qf(c(0.975, 0.025), clips["clip", "Df"], clips["Residuals", "Df"])
  odds <- pmax(c(clip / error, (f - 1) / k), 0) * error / (error + rater)
  each <- nlevels(d$clip) / sum(1 / table(d$clip))
  v <- tapply(d$value, d$clip, var); m <- tapply(d$value, d$clip, mean); room <- (m - 1) * (5 - m)
  list(variances = list(clip = clip, rater = rater, Residual = error), one_rater = odds / (1 + odds),
       mean = odds * each / (1 + odds * each), sos = unname(coef(lm(v ~ 0 + room))))
})
versions <- paste0("R ", getRversion(), ", psych ", packageVersion("psych"), ", lme4 ",
                   packageVersion("lme4"), ": agreement.R")
result <- list(source = versions, whole = whole, some = some)
writeLines(jsonlite::toJSON(result, auto_unbox = TRUE, digits = NA, pretty = TRUE), "../agreement.json")
